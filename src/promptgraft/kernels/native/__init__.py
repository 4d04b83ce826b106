"""The compiled path: the frozen encoder in C++, one library for each kind of processor, chosen when it is first used."""
