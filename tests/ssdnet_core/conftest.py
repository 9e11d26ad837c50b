import torch

# The machines that run this are shared, and the same bytes twice are promised for the same number of threads.
torch.set_num_threads(1)
