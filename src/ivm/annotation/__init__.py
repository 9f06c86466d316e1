"""Machine annotation, as in the paper's section on data: simplify -> experts -> fuse -> write.

Read `annotate` first: it is the whole way of one sample.
"""
