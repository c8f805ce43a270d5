"""Postgres: pools, migrations, named queries, and one small module of functions a subject."""
