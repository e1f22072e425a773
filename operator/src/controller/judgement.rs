//! What is wrong with a network, alone and beside the others.
