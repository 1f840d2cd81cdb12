"""Step Functions, Submit: find the posts that an earlier attempt may have created; else create them."""

from shared.publishing import publish, steps

handler = steps.handler(publish.submit)
