"""OpenAI's API without HTTP: from the JSON of a request to what the library does, and from outputs to answers."""
