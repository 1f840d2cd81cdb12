"""Step Functions, Follow: ask Postiz what has become of the posts."""

from shared.publishing import publish, steps

handler = steps.handler(publish.follow)
