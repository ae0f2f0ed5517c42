"""The CUDA ways of the ops: Triton kernels, FlashAttention for prompts, graphs for decode.

transformers' classes stay the model; `step.CudaStep` runs them with these kernels inside. The
kernels' arithmetic is proven by Triton's interpreter on a CPU (TRITON_INTERPRET=1), in float32 and
float16 (it has no bfloat16), against the same references as every other way, and its compiler takes
them for capability 8.0 and 9.0. What a GPU alone can show, bfloat16, FlashAttention and recordings
among it, is in the same tests, which take a GPU where there is one. Nothing here has met one yet, so
nothing is said about speed.
"""
