"""Tables as answers: CSV, Parquet, JSON."""

import asyncio
import json

from fastapi.responses import Response, StreamingResponse

from gateway.jobs.formats import csv_pieces, json_rows, parquet_pieces
from gateway.jobs.results import Table

JSON = "application/json"
CSV = "text/csv"
PARQUET = "application/vnd.apache.parquet"


async def response(table: Table, media_type: str, job: str) -> Response:
    """The answer. What takes long is done in threads; a Parquet file begins when it is whole."""
    if media_type == JSON:
        return Response(json.dumps({"rows": await asyncio.to_thread(json_rows, table)}), media_type=JSON)
    ending = "csv" if media_type == CSV else "parquet"
    headers = {"Cache-Control": "no-store", "Content-Disposition": f'attachment; filename="{job}.{ending}"'}
    if media_type == CSV:
        return StreamingResponse(
            csv_pieces(table), media_type="text/csv; charset=utf-8; header=present", headers=headers
        )
    return StreamingResponse(await asyncio.to_thread(parquet_pieces, table), media_type=PARQUET, headers=headers)
