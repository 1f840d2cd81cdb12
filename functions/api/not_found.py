"""The HTTP API's $default route: an address that is no route is answered as a problem, like everything else. Open."""

from shared.core import web

app = web.Api(scope=web.OPEN)

handler = web.handler(app)
