"""Every method on the same simulated crystals, with intervals, resumable, on many processes."""
