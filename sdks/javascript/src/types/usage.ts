/** `/usage` and `/requests`. Times are RFC 3339, money is decimal text. */

import type { Extensible } from "./common.js";

export interface UsageCounter extends Extensible {
  limit: number;
  /** null while it can't be known. */
  used: number | null;
  remaining: number | null;
  resets_at: string;
}

export interface UsageTokens extends Extensible {
  prompt: number;
  /** Those of the prompt that the provider had cached. */
  cached: number;
  completion: number;
  total: number;
}

export interface KeyUsage extends Extensible {
  id: string;
  name: string | null;
  hint: string | null;
  environment: string;
  status: "active" | "revoked" | "expired" | (string & {});
  used_this_minute: number | null;
  used: number | null;
  requests: number;
  tokens: UsageTokens;
  cost: string;
  limits: {
    requests_per_minute: number | null;
    requests_per_month: number | null;
    monthly_budget: string | null;
  };
}

export interface Usage extends Extensible {
  object: "usage";
  source: "live" | "ledger" | (string & {});
  period: { month: string; starts_at: string; resets_at: string };
  minute: UsageCounter;
  month: UsageCounter;
  parallel: { limit: number; used: number | null; remaining: number | null } | null;
  budget: { limit: string; spent: string; remaining: string; resets_at: string } | null;
  requests: number;
  tokens: UsageTokens;
  cost: string;
  currency: string;
  keys: KeyUsage[];
}

export interface TimeseriesParams {
  /** RFC 3339 or a Date. The last 30 days if absent. */
  start?: string | Date;
  /** Not in it. */
  end?: string | Date;
  bucket?: "hour" | "day" | "month";
  group_by?: "none" | "key" | "environment" | "model" | "deployment" | "status";
  api_key?: string;
  model?: string;
}

export interface Quantiles extends Extensible {
  p50: number;
  p95: number;
  p99: number;
}

export interface UsageSums extends Extensible {
  requests: number;
  failures: { total: number; by_code: Record<string, number> };
  tokens: UsageTokens | null;
  cost: string | null;
  duration_ms: Quantiles | null;
  first_token_ms: Quantiles | null;
}

export interface UsagePoint extends UsageSums {
  at: string;
}

export interface UsageSeries extends Extensible {
  totals: UsageSums;
  points: UsagePoint[];
  key?: { id: string; name: string | null; hint: string | null };
  model?: string;
  deployment?: string;
  environment?: string;
  status?: string;
}

export interface UsageTimeseries extends Extensible {
  object: "usage.timeseries";
  start: string;
  end: string;
  bucket: "hour" | "day" | "month" | (string & {});
  group_by: string;
  currency: string;
  series: UsageSeries[];
}

export interface RequestListParams {
  /** 1 to 100; 20 if absent. */
  limit?: number;
  cursor?: string;
  api_key?: string;
  model?: string;
  end_user?: string;
  /** `success`, `failed` or an HTTP status. */
  status?: "success" | "failed" | number | (string & {});
  error_code?: string;
  since?: string | Date;
  until?: string | Date;
}

/** What became of one request. */
export interface RequestRecord extends Extensible {
  id: string;
  object: "request";
  completion_id: string | null;
  started_at: string;
  operation: string;
  model: string | null;
  fallback_model: string | null;
  deployment: string | null;
  status: number;
  error_code: string | null;
  streamed: boolean;
  user_id: string | null;
  end_user: string | null;
  api_key: { id: string; name: string | null; hint: string | null };
  tokens: { prompt: number; completion: number; total: number; by_class?: Record<string, number> };
  usage_source: string;
  cost: string;
  currency: string | null;
  duration_ms: number | null;
  first_token_ms: number | null;
}

export interface Receipt extends RequestRecord {
  attempts: { deployment: string; outcome: string; duration_ms: number }[];
  quota_units: number;
  price: { id: string; starts_at: string; per_million_tokens: Record<string, string> } | null;
  cost_by_class: Record<string, string> | null;
  settled_by: string;
  recorded_at: string;
}
