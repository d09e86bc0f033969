"""Files of requests, one JSON object a line, in OpenAI's batch form: answered by one engine, or by many machines."""
