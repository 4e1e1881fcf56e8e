"""Where studies are kept: `database` opens it, `book` writes them; `glance` and `reading` ask SQLite alone.

Nothing is imported here: a mistyped name is answered by `glance` alone, in milliseconds.
"""
