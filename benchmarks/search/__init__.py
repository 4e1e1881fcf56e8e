"""Do searches find good archs with fewer trainings? Replays on tables, and whole searches by the command line."""
