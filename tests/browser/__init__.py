"""The page in a real browser: a small world in a database, `tidecast serve` on it, headless Chromium, screenshots."""
