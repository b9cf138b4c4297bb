"""A training step in PyTorch: dense and Mixture of Transformers, the model of lib/config/model_config.ts.

Variants of MoT: "mask" moves rows by boolean masks, as the published implementation does; "index" by lists of rows that
were made beforehand. B batch, T positions, N = B T tokens, D width, H query heads, K key heads, E head width.
"""

import time

import torch
import torch.nn.functional as F
from torch import nn


class Whole:
    """All rows in one group, for weights that are shared."""

    @staticmethod
    def split(x, _rows):
        return [x]

    @staticmethod
    def merge(parts, _rows):
        return parts[0]


class ByMask:
    """rows: one boolean mask [N] a modality."""

    @staticmethod
    def split(x, rows):
        return [x[mask] for mask in rows]

    @staticmethod
    def merge(parts, rows):
        merged = parts[0].new_empty((rows[0].shape[0], *parts[0].shape[1:]))
        for part, mask in zip(parts, rows):
            merged[mask] = part
        return merged


class ByIndex:
    """rows: the rows of each modality, then the place of every token in the concatenation of all."""

    @staticmethod
    def split(x, rows):
        return [x.index_select(0, index) for index in rows[:-1]]

    @staticmethod
    def merge(parts, rows):
        return torch.cat(parts).index_select(0, rows[-1])


def linear(d_in, d_out):
    return nn.Linear(d_in, d_out, bias=False)


def rope(x, cos, sin):
    """Rotate-half. x [B, T, H, E]; cos, sin [T, 1, E / 2]."""
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1).type_as(x)


class AttentionTower(nn.Module):
    def __init__(self, c):
        super().__init__()
        D, H, K, E, eps = c["d_model"], c["n_heads"], c["n_kv_heads"], c["head_dim"], c["norm_eps"]
        self.q_proj, self.k_proj, self.v_proj = linear(D, H * E), linear(D, K * E), linear(D, K * E)
        self.o_proj = linear(H * E, D)
        self.norm = nn.RMSNorm(D, eps=eps)
        self.q_norm, self.k_norm = (nn.RMSNorm(E, eps=eps) if c["qk_norm"] else nn.Identity() for _ in range(2))
        self.head_dim = E

    def qkv(self, x):
        q, k, v = (f(x).unflatten(-1, (-1, self.head_dim)) for f in (self.q_proj, self.k_proj, self.v_proj))
        return self.q_norm(q), self.k_norm(k), v


class MlpTower(nn.Module):
    def __init__(self, c):
        super().__init__()
        D, hidden = c["d_model"], c["ffn_dim"]
        self.gate_proj, self.up_proj, self.down_proj = linear(D, hidden), linear(D, hidden), linear(hidden, D)
        self.norm = nn.RMSNorm(D, eps=c["norm_eps"])

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Block(nn.Module):
    def __init__(self, c, groups, batch):
        super().__init__()
        self.groups, self.batch = groups, batch
        self.pre = c["norm_placement"] == "pre"  # else the norm stands on the branch's output
        self.gqa = c["n_heads"] != c["n_kv_heads"]
        modalities = len(c["modalities"])
        self.attention = nn.ModuleList(
            AttentionTower(c) for _ in range(modalities if c["untied"]["self_attn"] else 1)
        )
        self.mlp = nn.ModuleList(MlpTower(c) for _ in range(modalities if c["untied"]["mlp"] else 1))

    def attend(self, q, k, v, cos, sin):
        """q [N, H, E], k and v [N, K, E]; result [N, H E]."""
        q, k, v = (x.unflatten(0, (self.batch, -1)) for x in (q, k, v))
        q, k, v = (x.transpose(1, 2) for x in (rope(q, cos, sin), rope(k, cos, sin), v))
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=self.gqa)
        return out.transpose(1, 2).flatten(2).flatten(0, 1)

    def forward(self, h, rows, cos, sin):
        group, towers = self.groups["self_attn"], self.attention
        parts = group.split(h, rows)
        qkv = [tower.qkv(tower.norm(x) if self.pre else x) for tower, x in zip(towers, parts)]
        q, k, v = (group.merge(list(heads), rows) for heads in zip(*qkv))
        parts = group.split(self.attend(q, k, v, cos, sin), rows)
        out = [tower.o_proj(x) for tower, x in zip(towers, parts)]
        h = h + group.merge(out if self.pre else [tower.norm(x) for tower, x in zip(towers, out)], rows)

        group, towers = self.groups["mlp"], self.mlp
        parts = group.split(h, rows)
        out = [tower(tower.norm(x)) if self.pre else tower.norm(tower(x)) for tower, x in zip(towers, parts)]
        return h + group.merge(out, rows)


class Head(nn.Module):
    """Final norm, logits, and their cross-entropy."""

    def __init__(self, c, group):
        super().__init__()
        self.group = group
        towers = len(c["modalities"]) if c["untied"]["final"] else 1
        self.norm = nn.ModuleList(nn.RMSNorm(c["d_model"], eps=c["norm_eps"]) for _ in range(towers))
        self.lm_head = linear(c["d_model"], c["vocab"])

    def forward(self, h, rows, target):
        parts = [norm(x) for norm, x in zip(self.norm, self.group.split(h, rows))]
        return F.cross_entropy(self.lm_head(self.group.merge(parts, rows)).float(), target)


class Model(nn.Module):
    def __init__(self, c, groups, batch, positions):
        super().__init__()
        self.embed = nn.Embedding(c["vocab"], c["d_model"])
        self.blocks = nn.ModuleList(Block(c, groups, batch) for _ in range(c["n_layers"]))
        self.head = Head(c, groups["final"])
        frequency = c["rope_theta"] ** (-torch.arange(0, c["head_dim"], 2).float() / c["head_dim"])
        angle = torch.outer(torch.arange(positions).float(), frequency)[:, None]
        self.register_buffer("cos", angle.cos())
        self.register_buffer("sin", angle.sin())
        for parameter in self.parameters():
            if parameter.dim() == 2:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, token, rows, target):
        h = self.embed(token)
        for block in self.blocks:
            h = block(h, rows, self.cos, self.sin)
        return self.head(h, rows, target)


def rows_of(variant, modality, count):
    """What the groups need to know of a batch. modality [N]."""
    masks = [modality == i for i in range(count)]
    if variant == "mask":
        return masks
    index = [mask.nonzero().flatten() for mask in masks]
    return [*index, torch.argsort(torch.cat(index))]


def build(peer, request):
    """A step on one batch. shape: {"model": a model config with all values, "batch", "tokens": positions a sequence,
    "spans": [[modality, tokens], ...] that cover the batch}; parts: forward and backward, optimizer."""
    torch.manual_seed(0)
    shape, variant = request["shape"], request.get("variant")
    c, batch, positions = shape["model"], shape["batch"], shape["tokens"]
    if c.get("towers"):
        raise ValueError("the peers know untied parts, but no towers")
    modality = torch.cat([torch.full((count,), m) for m, count in shape["spans"]])
    if modality.numel() != batch * positions:
        raise ValueError(f"spans cover {modality.numel()} tokens of {batch * positions}")
    moves = {"mask": ByMask, "index": ByIndex, None: Whole}[variant]
    groups = {part: moves if untied else Whole for part, untied in c["untied"].items()}
    rows = rows_of(variant, modality, len(c["modalities"])) if variant else []
    model = Model(c, groups, batch, positions)
    if peer == "torch_compile":
        # Block by block: all blocks share one compiled graph, so the first step starts sooner.
        # Boolean masks break the graph; captured in it (capture_dynamic_output_shape_ops) they made a step 3 times
        # slower.
        for part in (*model.blocks, model.head):
            part.compile(dynamic=None if variant == "mask" else False)
    parameters = list(model.parameters())
    adamw = torch.optim.AdamW(parameters, lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    token = torch.randint(0, c["vocab"], (batch * positions,))
    target = torch.randint(0, c["vocab"], (batch * positions,))

    def run():
        begin = time.perf_counter()
        adamw.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=request["dtype"] == "bf16"):
            loss = model(token, rows, target)
        loss.backward()
        middle = time.perf_counter()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        adamw.step()
        end = time.perf_counter()
        return {"forward_backward": (middle - begin) * 1e3, "optimizer": (end - middle) * 1e3}

    return run
