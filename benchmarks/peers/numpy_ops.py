"""GEMM by OpenBLAS, through numpy's bundled copy. Its threads are set by OPENBLAS_NUM_THREADS before the start."""

import numpy


def build(_peer, request):
    """A function that does the work once. shape: {"form": "forward" | "d_x" | "d_w", "tokens", "in", "out"}."""
    if request["dtype"] != "f32":
        raise ValueError("OpenBLAS has f32 only")
    shape = request["shape"]
    tokens, d_in, d_out = shape["tokens"], shape["in"], shape["out"]
    random = numpy.random.default_rng(0)

    def tensor(rows, columns):
        return random.standard_normal((rows, columns), dtype=numpy.float32)

    if shape["form"] == "forward":  # y = x w^T
        a, b = tensor(tokens, d_in), tensor(d_out, d_in).T
    elif shape["form"] == "d_x":  # d_x = d_y w
        a, b = tensor(tokens, d_out), tensor(d_out, d_in)
    else:  # d_w = d_y^T x
        a, b = tensor(tokens, d_out).T, tensor(tokens, d_in)
    out = numpy.empty((a.shape[0], b.shape[1]), numpy.float32)

    def run():
        numpy.matmul(a, b, out=out)

    return run
