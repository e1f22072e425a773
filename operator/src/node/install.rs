//! Puts the plugin's executable and configuration on the host.
