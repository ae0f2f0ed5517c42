"""The CUDA ways of the ops: Triton kernels, FlashAttention for prompts, graphs for decode.

transformers' classes stay the model; `step.CudaStep` runs them with these kernels inside. The
kernels' arithmetic is proven by Triton's interpreter on a CPU (TRITON_INTERPRET=1), against the same
references as every other way; what a GPU alone can show is in tests/kernels/cuda, which take a GPU
where there is one. Nothing here has met one yet, so nothing is said about speed.
"""
