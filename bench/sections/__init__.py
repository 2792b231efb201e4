"""The measurements, one module each: measure(run), table(run), targets(run)."""
