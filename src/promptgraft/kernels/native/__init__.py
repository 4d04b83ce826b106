"""The compiled path: the frozen encoder in C++, a library for each kind of processor, chosen at first use."""
