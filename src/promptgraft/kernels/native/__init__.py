"""The native path is the frozen encoder in C++, compiled for several kinds of processor; one is chosen at first use."""
