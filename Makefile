# For those who type make: the commands are those of tools/dev.py.
.PHONY: demo test conformance pages
demo test conformance:
	python3 tools/dev.py $@
pages:
	.venv/bin/python docs/generate.py
