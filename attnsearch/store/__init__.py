"""Where studies are kept.

`database` opens a storage, `study_store` writes a study, `read` reads one, `sqlite` reads without Optuna.
Nothing is imported here: a mistyped name is answered by `sqlite` alone, in milliseconds.
"""
