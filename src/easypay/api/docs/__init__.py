"""The documentation for people: /docs, one page a topic, and /problems/{code}.

The guides are `docs/api/*.md`; the calls, objects and problems come from the OpenAPI document.
"""
