"""The trends of a line as a step of a flow."""

from collections.abc import Collection

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.storage import Storage
from tasks.trend_page import write_trends
from tasks.trends import Trends


@task(name="trends", task_run_name="trends of {line}", cache_policy=NO_CACHE, persist_result=False)
def update_trends(results: Storage, line: str, *, anew: Collection[str] = ()) -> Trends:
    """Write the table and the page of a line's nights."""
    return write_trends(results, line, anew=anew)
