"""Gatehouse on Google Cloud: a configuration becomes a list of steps, a small runner takes them.

provision, deploy and perimeter only plan: values in, steps out, nothing is called. So what would
be done can be read (--dry-run), checked by gcloud itself (--lint) and tested without a cloud.
"""
