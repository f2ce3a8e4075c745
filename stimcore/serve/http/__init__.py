"""The HTTP side of the server: routes, codecs, middleware, error responses, and the uvicorn server."""
