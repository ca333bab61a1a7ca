"""What keeps a service right between two retrainings: monitor, calibration, drift, retention."""
