"""Where studies are kept: `glance` asks a file what it holds, `database` opens it, `book` writes and reads a study.

Nothing is imported here: a mistyped name is answered by `glance` alone, in milliseconds.
"""
