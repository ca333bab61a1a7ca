"""Tensors in, tensors out: forecasters, their training, their scores and their artifacts.

Letters used for shapes everywhere: B batch, T context, H horizon, Q quantile levels, D hidden, F calendar
features, S segments (of a window) or series (of a panel), N steps of a flat panel.
"""
