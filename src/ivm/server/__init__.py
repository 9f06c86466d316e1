"""HTTP: a native API, an OpenAI-compatible proxy that masks what passes, and a page to try it."""
