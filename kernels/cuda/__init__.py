"""The ops on CUDA: Triton kernels, FlashAttention for prefill, CUDA graphs for decode.

`step.CudaStep` runs transformers' classes with these kernels inside. Without a GPU the tests run them
in Triton's interpreter (TRITON_INTERPRET=1), in float32 and float16 (it has no bfloat16), against the
same references as every other backend, and compile them for capability 8.0 and 9.0. bfloat16,
FlashAttention and graphs are tested where there is a GPU. They have not been run on one yet, so
nothing is said about speed.
"""
