"""The toy's one deployment."""

from deployments.tenancy import MainJob, Served, Step, Tenant

TENANT = Tenant(
    name="toy",
    served=(Served("flows.toy:toy", "count"),),
    main=MainJob(lambda asked: [Step("toy/count", dict(asked.plan))], corpus=""),
)
