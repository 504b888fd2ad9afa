"""The toy's deployments."""

from deployments.tenancy import MainJob, Served, Step, Tenant

TENANT = Tenant(
    name="toy",
    served=(Served("flows.toy:toy", "count"), Served("flows.each:each", "each")),
    main=MainJob(lambda asked: [Step("toy/count", dict(asked.plan))], corpus=""),
)
