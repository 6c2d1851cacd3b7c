// npm's oidc-provider at the addresses of Entra's v2 endpoint: an authority that nobody here wrote checks what
// our sources send. It prints one line of JSON for each token that it gives and each refusal.
//
//   node provider.mjs SETTINGS     JSON: {host, port, tenant, key, cert, jwks, client_id, device_client_id, person, resource}
//
// person is the object id of who signs in; jwks holds the public key of the confidential client. Beside the provider's own routes:
//   GET /__approve?user_code=CODE   signs that person in for a device code, as a person with a browser would
import { createServer } from 'node:https';
import { readFileSync } from 'node:fs';
import { Provider } from 'oidc-provider';

const settings = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const { host, port, tenant, resource } = settings;
const issuer = `https://${host}/${tenant}/v2.0`;
const scope = `${resource}/.default`;
const say = (what) => console.log(JSON.stringify(what));

const provider = new Provider(issuer, {
  // Without a page that a person could use: decided by /__approve.
  routes: {
    token: `/${tenant}/oauth2/v2.0/token`,
    device_authorization: `/${tenant}/oauth2/v2.0/devicecode`,
    authorization: `/${tenant}/oauth2/v2.0/authorize`,
    jwks: `/${tenant}/discovery/v2.0/keys`,
  },
  clients: [
    {
      client_id: settings.client_id,
      token_endpoint_auth_method: 'private_key_jwt',
      token_endpoint_auth_signing_alg: 'PS256',
      grant_types: ['client_credentials'],
      redirect_uris: [],
      response_types: [],
      jwks: settings.jwks,
    },
    {
      client_id: settings.device_client_id,
      application_type: 'native',
      token_endpoint_auth_method: 'none',
      grant_types: ['urn:ietf:params:oauth:grant-type:device_code', 'refresh_token'],
      redirect_uris: [],
      response_types: [],
    },
  ],
  claims: { openid: ['sub', 'tid', 'oid', 'preferred_username'] },
  conformIdTokenClaims: false,
  scopes: ['openid', 'offline_access', 'profile', 'email'],
  clientAuthMethods: ['private_key_jwt', 'none'],
  enabledJWA: { clientAuthSigningAlgValues: ['PS256', 'RS256'] },
  cookies: { keys: ['interop'] },
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    deviceFlow: { enabled: true },
    resourceIndicators: {
      enabled: true,
      // Entra reads the resource out of the scope; here it is always the one.
      defaultResource: () => resource,
      useGrantedResource: () => true,
      getResourceServerInfo: () => ({
        scope, audience: resource, accessTokenTTL: 3600, accessTokenFormat: 'jwt', jwt: { sign: { alg: 'RS256' } },
      }),
    },
  },
  ttl: { ClientCredentials: 3600, AccessToken: 3600, DeviceCode: 900, Grant: 86400, RefreshToken: 86400, Session: 86400, Interaction: 900, IdToken: 3600 },
  rotateRefreshToken: true,
  issueRefreshToken: async (_, client, code) => client.grantTypeAllowed('refresh_token') && code.scopes.has('offline_access'),
  extraTokenClaims: (_, token) => ({ tid: tenant, oid: token.accountId ?? token.clientId, uti: token.jti, appid: token.clientId }),
  findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id, preferred_username: 'alice@contoso.com', tid: tenant, oid: id }) }),
});
provider.proxy = false;

for (const event of ['grant.success', 'grant.error', 'server_error']) {
  provider.on(event, (ctx, error) => {
    const body = ctx.oidc?.body ?? {};
    say({
      event, grant: body.grant_type, client: ctx.oidc?.client?.clientId, error: error?.error ?? error?.message,
      detail: error?.error_detail ?? error?.error_description, assertion: Boolean(body.client_assertion),
      refresh: body.refresh_token?.slice(0, 8),
    });
  });
}

// What the provider's own pages would do once a person typed the code, signed in and agreed.
async function approve(userCode) {
  const code = await provider.DeviceCode.findByUserCode(userCode.replace(/[^A-Z0-9]/gi, '').toUpperCase());
  if (!code) return 404;
  const clientId = code.clientId;
  const grant = new provider.Grant({ accountId: settings.person, clientId });
  const asked = code.params.scope ?? '';
  grant.addOIDCScope(asked.split(' ').filter((one) => ['openid', 'offline_access', 'profile', 'email'].includes(one)).join(' '));
  grant.addResourceScope(resource, scope);
  code.grantId = await grant.save();
  code.accountId = settings.person;
  code.authTime = Math.floor(Date.now() / 1000);
  code.scope = asked;
  code.claims = {};
  code.resource = resource;
  code.expiresWithSession = false;
  code.sessionUid = 'interop';
  await code.save();
  return 200;
}

const answer = provider.callback();
createServer({ key: readFileSync(settings.key), cert: readFileSync(settings.cert) }, async (request, response) => {
  const url = new URL(request.url, issuer);
  if (url.pathname === '/__approve') {
    const status = await approve(url.searchParams.get('user_code') ?? '').catch((error) => { say({ event: 'approve', error: String(error) }); return 500; });
    response.writeHead(status).end();
    return;
  }
  await answer(request, response);
}).listen(port, '127.0.0.1', () => say({ event: 'ready' }));
