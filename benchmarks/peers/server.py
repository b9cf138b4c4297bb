"""Times one peer library, for `mot bench --peers`: reads a JSON request a line, answers each with a line of JSON.

    python3 server.py --peer torch_eager|torch_compile|onednn|openblas --threads N

First line of the answers: {"ready": true, "version": "..."} or {"error": "...", "install": "package"}. Then to every
request {"op", "variant", "shape", "dtype", "threads", "repeats"}: {"ms": [...], "parts": {name: [...]}, "peak_rss_mb": x},
times of `repeats` runs, or {"error": "..."}. The first request of a case builds and warms it; later ones go on with it, so that
contenders can take turns. {"forget": true} drops the cases made so far.
"""

import argparse
import gc
import importlib
import json
import os
import queue
import resource
import sys
import threading
import time

# Which module builds the cases of an op, and for whom.
MODULES = {
    "openblas": {"gemm": "numpy_ops"},
    "onednn": {"gemm": "torch_ops"},
    "torch_eager": {
        **{op: "torch_ops" for op in ("gemm", "attention", "loss", "optimizer", "grad_norm")},
        "step": "torch_step",
    },
    "torch_compile": {"loss": "torch_ops", "optimizer": "torch_ops", "step": "torch_step"},
}
WARM_UP_RUNS = 2
# OpenMP's threads spin for a while after their last work; the next contender should find the processors idle.
SETTLE_S = 0.02


def start(peer, threads):
    """Imports the peer's library and gives its version."""
    if peer == "openblas":
        import numpy

        blas = numpy.show_config(mode="dicts")["Build Dependencies"]["blas"]
        if "openblas" not in blas["name"].lower():
            raise RuntimeError(f"numpy uses {blas['name']}, not OpenBLAS")
        return f"numpy {numpy.__version__}, OpenBLAS {blas['version']}"
    import torch

    torch.set_num_threads(threads)
    if peer == "onednn" and not torch.backends.mkldnn.is_available():
        raise RuntimeError("this PyTorch has no oneDNN")
    return f"torch {torch.__version__}"


def peak_rss_mb():
    """Largest resident set since `reset_peak`, or since the start where it cannot be reset, in MB (10^6 bytes)."""
    try:
        with open("/proc/self/status") as status:
            for line in status:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024 / 1e6
    except OSError:
        pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def reset_peak():
    try:
        with open("/proc/self/clear_refs", "w") as clear_refs:
            clear_refs.write("5")
    except OSError:
        pass


class Server:
    def __init__(self, peer, threads):
        self.peer, self.threads = peer, threads
        self.cases = {}

    def prepared(self, request):
        key = json.dumps({name: request.get(name) for name in ("op", "variant", "shape", "dtype")}, sort_keys=True)
        if key not in self.cases:
            module = MODULES[self.peer].get(request["op"])
            if module is None:
                raise ValueError(f"{self.peer} has no {request['op']}")
            run = importlib.import_module(module).build(self.peer, request)
            for _ in range(WARM_UP_RUNS):
                run()
            self.cases[key] = run
            reset_peak()
        return self.cases[key]

    def answer(self, request):
        if request.get("forget"):
            self.cases.clear()
            gc.collect()
            return {}
        if request["threads"] != self.threads:
            raise ValueError(f"started for {self.threads} threads, the request says {request['threads']}")
        run = self.prepared(request)
        times = {}
        for _ in range(request["repeats"]):
            begin = time.perf_counter()
            parts = run() or {}
            total = (time.perf_counter() - begin) * 1e3
            for name, ms in {"ms": total, **parts}.items():
                times.setdefault(name, []).append(ms)
        if request["repeats"] > 0:
            time.sleep(SETTLE_S)
        return {"ms": times.pop("ms", []), "parts": times, "peak_rss_mb": peak_rss_mb()}


def requests():
    """Lines of standard input. At its end, that of the benchmark, this process ends at once, in a compilation too."""
    lines = queue.Queue()

    def read():
        for line in sys.stdin:
            lines.put(line)
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    while True:
        yield lines.get()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--peer", choices=MODULES, required=True)
    parser.add_argument("--threads", type=int, required=True)
    options = parser.parse_args()
    # Answers have standard output for themselves: what libraries print goes to standard error.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(message):
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    try:
        version = start(options.peer, options.threads)
    except ImportError as error:
        name = "numpy" if options.peer == "openblas" else "torch"
        say({"error": f"Python cannot import {error.name or name}: {error}", "install": name})
        return
    except Exception as error:
        say({"error": f"{type(error).__name__}: {error}"})
        return
    say({"ready": True, "version": version})
    server = Server(options.peer, options.threads)
    for line in requests():
        try:
            say(server.answer(json.loads(line)))
        except Exception as error:
            text = str(error).strip() or "no message"
            say({"error": f"{type(error).__name__}: {text.splitlines()[0]}"})


if __name__ == "__main__":
    main()
