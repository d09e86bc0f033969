"""OpenAI's API over HTTP: routes, who may come in, how answers are sent, and how the server ends."""
