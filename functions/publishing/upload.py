"""Step Functions, Upload: stream the asset to Postiz, a block at a time."""

from shared.publishing import publish, steps

handler = steps.handler(publish.upload)
