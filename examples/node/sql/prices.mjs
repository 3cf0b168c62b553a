// Prices in Postgres that a keeper writes, and that refuse a keeper whose time is over.

// schema has a token beside each price: the largest that has written it.
export const schema = `
CREATE TABLE IF NOT EXISTS prices (
  id    text PRIMARY KEY,
  value numeric NOT NULL,
  token bigint NOT NULL CHECK (token > 0)
)`;

// StaleTokenError: another keeper has written since. This one must stop.
export class StaleTokenError extends Error {}

// write stores a price under the fencing token of the lock. The check and the write are one
// statement: a check before it would leave a gap, in which this process may be paused.
//
// token is text, as lockkeeper gives it, and stays text: Number() rounds what is above 2^53. The
// same token may write again, so a write whose answer was lost is simply repeated.
export async function write(client, token, id, value) {
  const { rowCount } = await client.query(
    `INSERT INTO prices (id, value, token) VALUES ($1, $2, $3)
     ON CONFLICT (id) DO UPDATE SET value = excluded.value, token = excluded.token
     WHERE prices.token <= excluded.token`,
    [id, value, token],
  );
  if (rowCount === 0) throw new StaleTokenError(`another keeper has written ${id} with a token above ${token}`);
}
