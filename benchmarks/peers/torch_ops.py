"""Single operations in PyTorch, eager, compiled, and through oneDNN. B batch, H query heads, K key heads, T positions,
E head width."""

import time

import torch
import torch.nn.functional as F

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


def build(peer, request):
    """A function that does the work once, with its parts' times in ms as result where it has parts."""
    torch.manual_seed(0)
    builders = {"gemm": gemm, "attention": attention, "loss": loss, "optimizer": optimizer, "grad_norm": grad_norm}
    return builders[request["op"]](peer, request["shape"], DTYPES[request["dtype"]], request.get("variant"))


def gemm(peer, shape, dtype, _variant):
    """shape: {"form": "forward" | "d_x" | "d_w", "tokens", "in", "out"}; weights are [out, in], as in nn.Linear."""
    tokens, d_in, d_out = shape["tokens"], shape["in"], shape["out"]
    if shape["form"] == "forward":  # y = x w^T
        a, b = torch.randn(tokens, d_in), torch.randn(d_out, d_in).t()
    elif shape["form"] == "d_x":  # d_x = d_y w
        a, b = torch.randn(tokens, d_out), torch.randn(d_out, d_in)
    else:  # d_w = d_y^T x
        a, b = torch.randn(tokens, d_out).t(), torch.randn(tokens, d_in)
    a, b = a.to(dtype), b.to(dtype)
    if peer == "onednn" and dtype == torch.float32:
        # torch.mm takes MKL for f32; this operator is oneDNN's inner product, y = a w^T. It reorders as it sees fit.
        weight = b.t()
        return lambda: discard(torch.ops.mkldnn._linear_pointwise(a, weight, None, "none", [], ""))
    out = torch.empty(a.shape[0], b.shape[1], dtype=dtype)
    return lambda: discard(torch.mm(a, b, out=out))


def discard(_result):
    return None


def forward_backward(forward, inputs):
    """Runs `forward` (a scalar or a tensor and the gradient it gets), then its backward; the times of both."""

    def run():
        for tensor in inputs:
            tensor.grad = None
        begin = time.perf_counter()
        out, gradient = forward()
        middle = time.perf_counter()
        out.backward(gradient)
        end = time.perf_counter()
        return {"forward": (middle - begin) * 1e3, "backward": (end - middle) * 1e3}

    return run


def attention(_peer, shape, dtype, _variant):
    """shape: {"batch", "heads", "kv_heads", "tokens", "head_dim"}; causal, forward, then backward."""
    B, H, K, T, E = (shape[name] for name in ("batch", "heads", "kv_heads", "tokens", "head_dim"))
    q, k, v = (torch.randn(B, heads, T, E, dtype=dtype, requires_grad=True) for heads in (H, K, K))
    gradient = torch.randn(B, H, T, E, dtype=dtype)

    def forward():
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=H != K), gradient

    return forward_backward(forward, (q, k, v))


def loss(peer, shape, dtype, _variant):
    """Linear and cross-entropy, forward and backward. shape: {"tokens", "width", "vocab"}; softmax in f32."""
    x = torch.randn(shape["tokens"], shape["width"], dtype=dtype, requires_grad=True)
    weight = (torch.randn(shape["vocab"], shape["width"]) * 0.02).to(dtype).requires_grad_()
    target = torch.randint(0, shape["vocab"], (shape["tokens"],))

    def value():
        return F.cross_entropy(F.linear(x, weight).float(), target)

    compiled = torch.compile(value, dynamic=False) if peer == "torch_compile" else value
    return forward_backward(lambda: (compiled(), None), (x, weight))


def optimizer(peer, shape, _dtype, variant):
    """AdamW on f32. shape: {"sizes": elements of each tensor}; variant: "foreach", "fused", None where compiled."""
    parameters = [torch.nn.Parameter(torch.randn(size)) for size in shape["sizes"]]
    for parameter in parameters:
        parameter.grad = torch.randn_like(parameter)
    how = {variant: True} if variant else {"foreach": True}
    adamw = torch.optim.AdamW(parameters, lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1, **how)
    step = torch.compile(adamw.step) if peer == "torch_compile" else adamw.step
    return lambda: discard(step())


def grad_norm(_peer, shape, _dtype, _variant):
    """Euclidean norm of all f32 tensors together. shape: {"sizes": elements of each tensor}."""
    tensors = [torch.randn(size) for size in shape["sizes"]]
    return lambda: discard(torch.nn.utils.get_total_norm(tensors))
