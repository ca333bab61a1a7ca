"""When: times on a grid of steps, in any frequency, zone and phase."""
