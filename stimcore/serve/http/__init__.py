"""The HTTP front: routes, codecs, middleware and the uvicorn server."""
