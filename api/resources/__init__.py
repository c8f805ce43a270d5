"""Thin resources: parse, call, shape. Policy is in rules/, statements are in db/."""
