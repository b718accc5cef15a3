#!/bin/sh
# The planner's cases, each a directory of files: see run_cases.c.
exec tests/plan/run_cases "${CLOUDPLAN_SRC:-.}/tests/plan"
