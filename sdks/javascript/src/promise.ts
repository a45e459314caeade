/** What a call gives: a promise of the answer, which also has the response it came in. */

export interface Answer<T> {
  data: T;
  response: Response;
}

export interface WithResponse<T> extends Answer<T> {
  /** `req_…`, as in the header X-Request-ID. */
  request_id: string | null;
}

export class APIPromise<T> extends Promise<T> {
  readonly #answer: Promise<Answer<T>>;

  constructor(answer: Promise<Answer<T>>) {
    super((done, fail) => {
      answer.then(({ data }) => done(data), fail);
    });
    this.#answer = answer;
  }

  // What `then` makes is an ordinary promise.
  static override get [Symbol.species](): PromiseConstructor {
    return Promise;
  }

  /** The answer with its response, for headers such as X-RateLimit-Remaining. Its body has been read. */
  async withResponse(): Promise<WithResponse<T>> {
    const { data, response } = await this.#answer;
    return { data, response, request_id: response.headers.get("x-request-id") };
  }
}

/** One page of a list, as the API printed it. Iterating goes on over the pages that follow. */
export type Page<T> = {
  object?: "list";
  data: T[];
  has_more?: boolean;
  first_id?: string | null;
  last_id?: string | null;
  /** Of `client.requests.list`: the `cursor` of the page that follows. */
  next_cursor?: string | null;
  [field: string]: unknown;
} & AsyncIterable<T>;

/** `for await (const item of client.models.list())` goes through all pages. */
export class PagePromise<T> extends APIPromise<Page<T>> implements AsyncIterable<T> {
  async *[Symbol.asyncIterator](): AsyncIterator<T> {
    yield* await this;
  }
}
