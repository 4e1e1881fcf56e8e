"""Do the statistics hold what they promise? Simulations, and real trainings with a known answer."""
