"""Parts for polar-env, each in its own file; `pyproject.toml` offers them as entry points."""
