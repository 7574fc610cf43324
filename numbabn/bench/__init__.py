"""Speed on this machine: numbabn beside PyTorch, TensorFlow, JAX and the copy limit. The command ``numbabn bench``."""
