"""The CPU's kernels: decoder steps and their gradients in C++, packed and called here."""
