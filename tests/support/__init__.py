"""What tests share: a Postgres, databases in it, and services as processes."""
