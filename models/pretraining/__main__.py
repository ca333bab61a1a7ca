"""Make the network of the wheel: `python -m models.pretraining --steps 60000 --checkpoint DIR/run.pt`.

It goes on from the checkpoint if there is one, else from the weights of an artifact (`--weights
models/pretrained.safetensors`) or from chance, and writes the weights to models/pretrained.safetensors at the end. With
`--real FILE.npz` (of `python -m tests.bench zero-shot --training-series FILE.npz`) a share of the windows is real.
"""

import argparse
import json
import sys
from pathlib import Path

import torch

from models.artifact import hash_artifact, pack, unpack
from models.fitting.training import choose_device
from models.pretrained import FILE
from models.pretraining.loop import Plan, pretrain
from models.pretraining.windows import read_real


def main() -> int:
    """Train as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m models.pretraining", description=__doc__)
    parser.add_argument("--steps", type=int, default=60_000, help="in all, those of the checkpoint among them")
    parser.add_argument("--rows", type=int, default=64, help="windows of a step")
    parser.add_argument("--rate", type=float, default=2e-3, help="learning rate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--checkpoint", type=Path, required=True, help="file to go on from, and to keep")
    parser.add_argument("--weights", type=Path, help="artifact to begin with where there is no checkpoint")
    parser.add_argument("--real", type=Path, help="real series, an .npz file")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--threads", type=int, default=1, help="of torch; one is as fast as two for so small a network")
    parser.add_argument("--output", type=Path, default=Path(__file__).parents[1] / FILE)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    torch.set_flush_denormal(True)
    device = choose_device(chosen.device)
    real = read_real(chosen.real) if chosen.real else {}
    plan = Plan(steps=chosen.steps, rows=chosen.rows, rate=chosen.rate, seed=chosen.seed)

    def say(facts: dict[str, object]) -> None:
        sys.stderr.write(json.dumps(facts) + "\n")

    given = chosen.weights.read_bytes() if chosen.weights else None
    begun = unpack(given) if given else None
    start = begun.model.state_dict() if begun else None
    model = pretrain(plan, real, checkpoint=chosen.checkpoint, start=start, say=say, device=device.type)
    windows = chosen.steps * chosen.rows
    made = {"steps": chosen.steps, "windows": windows, "seed": chosen.seed, "real_series": sum(map(len, real.values()))}
    if given and begun:
        made["begun_with"] = {"sha256": hash_artifact(given), **begun.provenance}
    artifact = pack(model.cpu(), series=(), provenance=made)
    chosen.output.write_bytes(artifact)
    say({"output": str(chosen.output), "bytes": len(artifact), "sha256": hash_artifact(artifact)})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
