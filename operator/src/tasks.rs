//! Running several tasks as one process: the first that fails ends it with its reason; a signal ends it in time.
