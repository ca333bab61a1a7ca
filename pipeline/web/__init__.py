"""The read API and the page of `tidecast serve`: HTTP in, JSON and events out; nothing here can write.

The only importer of fastapi, starlette, anyio and uvicorn, which the extra `serve` installs.
"""
