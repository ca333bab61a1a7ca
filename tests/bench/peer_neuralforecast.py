"""LSTM, GRU or NHITS of neuralforecast on M4-Hourly; runs in its own environment: `peer_neuralforecast.py JOB`."""

import time

import numpy as np
import pandas as pd
from neuralforecast import NeuralForecast, models
from neuralforecast.losses.pytorch import MQLoss
from peer_job import answer, describe, read_histories, read_job, watch
from pytorch_lightning import Callback

STEPS = 2000
TUTORIAL = "https://nixtlaverse.nixtla.io/neuralforecast/docs/tutorials/uncertainty_quantification.html"
OURS = "MQLoss of our 13 levels instead of its five; all else the default"
DOCUMENTED = {
    "LSTM": f"the tutorial on M4-Hourly ({TUTORIAL}): context 3 horizons, the default, and 2000 steps; {OURS}",
    "GRU": f"as the LSTM of the tutorial on M4-Hourly ({TUTORIAL}); {OURS}",
    "NHITS": f"the tutorial on M4-Hourly ({TUTORIAL}): context 7 horizons, n_freq_downsample 24 12 1, 2000 steps; "
    f"scaler_type robust, the default of this library's LSTM and GRU; {OURS}",
}


def main() -> None:
    job = read_job()
    histories = read_histories(job)
    frame = pd.DataFrame(
        {
            "unique_id": np.repeat(np.arange(len(histories)), [len(each) for each in histories]),
            "ds": np.concatenate([np.arange(len(each)) for each in histories]),
            "y": np.concatenate(histories),
        }
    )
    settings = {"input_size": 3 * job.horizon, "scaler_type": "robust", "max_steps": job.steps or STEPS}
    if job.model == "NHITS":
        settings |= {"input_size": 7 * job.horizon, "n_freq_downsample": [24, 12, 1]}
    # A batch is all windows of 32 series, of which the training step takes windows_batch_size.
    counter, watched = watch(Callback, lambda _batch: model.windows_batch_size)
    model = getattr(models, job.model)(
        h=job.horizon,
        loss=MQLoss(quantiles=list(job.levels)),
        random_seed=job.seed,
        **settings,
        accelerator="cpu",
        max_time=job.max_time,
        callbacks=[counter],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    forecaster = NeuralForecast(models=[model], freq=1)
    began = time.perf_counter()
    forecaster.fit(frame)
    trained = time.perf_counter()
    found = forecaster.predict().sort_values(["unique_id", "ds"])
    columns = [name for name in found.columns if name.startswith(f"{job.model}-")]  # in the order of the levels
    quantiles = found[columns].to_numpy(np.float64).reshape(len(histories), job.horizon, len(job.levels))
    done = time.perf_counter()
    facts = describe(job, watched, f"{STEPS} steps") | {
        "seconds": trained - began,
        "forecast_seconds": done - trained,
        "context": settings["input_size"],
        "settings": settings | {"loss": "MQLoss", "windows_batch_size": model.windows_batch_size},
        "documented": DOCUMENTED[job.model],
    }
    answer(job, quantiles, ("neuralforecast", "pytorch-lightning", "torch"), facts)


if __name__ == "__main__":
    main()
