"""Windows to forecasts, as the worker and the jobs make them."""
